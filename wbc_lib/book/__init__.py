"""From chapters to pages."""
