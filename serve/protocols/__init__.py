"""The HTTP interface: routes, keys, errors, OpenAPI, pages."""
