"""Rows made by models: recipes, the calls they need, the store of answers, and what is kept of them."""
