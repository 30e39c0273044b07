"""Complete verification: what one bound leaves open is split into domains until each is refuted."""
