"""The licence that a folder's LICENSE file states, by its well-known first words -> its SPDX name.

In: the file's text. Out: the name, or "unknown". Knows nothing about pages and files, and is no legal advice.
"""

import re

UNKNOWN = "unknown"

# In order: the GPL's own name stands in the LGPL's and AGPL's text, and BSD's clauses tell its kinds apart.
_KNOWN = (
    (r"Apache License,? Version 2\.0", "Apache-2.0"),
    (r"GNU AFFERO GENERAL PUBLIC LICENSE Version 3", "AGPL-3.0"),
    (r"GNU LESSER GENERAL PUBLIC LICENSE Version 3", "LGPL-3.0"),
    (r"GNU LESSER GENERAL PUBLIC LICENSE Version 2\.1", "LGPL-2.1"),
    (r"GNU GENERAL PUBLIC LICENSE Version 3", "GPL-3.0"),
    (r"GNU GENERAL PUBLIC LICENSE Version 2", "GPL-2.0"),
    (r"GNU Free Documentation License Version 1\.3", "GFDL-1.3"),
    (r"Mozilla Public License,? Version 2\.0", "MPL-2.0"),
    (r"CC0 1\.0 Universal", "CC0-1.0"),
    (r"Attribution-ShareAlike 4\.0 International", "CC-BY-SA-4.0"),
    (r"Attribution-NonCommercial 4\.0 International", "CC-BY-NC-4.0"),
    (r"Attribution 4\.0 International", "CC-BY-4.0"),
    (r"PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2", "PSF-2.0"),
    (r"free and unencumbered software released into the public domain", "Unlicense"),
    (r"Permission to use, copy, modify, and/or distribute this software for any purpose", "ISC"),
    (r"MIT License|Permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
    (r"Redistribution and use in source and binary forms.*(Neither the name|names? of its contributors)",
     "BSD-3-Clause"),
    (r"Redistribution and use in source and binary forms", "BSD-2-Clause"),
)  # fmt: skip
FIRST = 4_000  # characters: what a licence is called stands at its top


def spdx(text: str) -> str:
    """The SPDX name of the licence that `text` begins with, or "unknown"."""
    begin = re.sub(r"[\s#*=_-]+", " ", text[:FIRST].replace("Attribution-", "Attribution~"))
    begin = begin.replace("Attribution~", "Attribution-")
    return next((name for told, name in _KNOWN if re.search(told, begin, re.IGNORECASE)), UNKNOWN)
