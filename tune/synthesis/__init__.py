"""Questions and answers that another model writes about the pages, each judged for being supported by its passage."""
