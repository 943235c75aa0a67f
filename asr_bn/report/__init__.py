"""Results, figures and the page that a recipe shows at its end."""
