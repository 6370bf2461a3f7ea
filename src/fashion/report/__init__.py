"""What people look at: tables, pictures, one-page reports."""
