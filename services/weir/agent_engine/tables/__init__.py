"""The studio's SQL, one noun a module; every statement names the tenant."""
