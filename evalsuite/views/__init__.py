"""A report, shown: as a page, as JUnit XML, as Markdown. Decides nothing."""
