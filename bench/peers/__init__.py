"""The peers that we are compared with, called as their users call them."""
