"""The study: what notebooks, results and book are made of, on top of the library."""
