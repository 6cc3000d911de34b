"""The API under ``/api/v1``, for marketplaces that keep their own pages and files."""
