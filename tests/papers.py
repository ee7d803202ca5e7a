"""PDF and DOCX files made by hand, as small as they can be: text at places in the standard fonts, styles in Word's."""

import io
import zipfile
from html import escape

FONTS = {"body": "Times-Roman", "bold": "Helvetica-Bold", "code": "Courier"}


def pdf(*pages, encrypted=False, picture=False):
    """Each page is a list of (x, y from the top, font, size, text), ("rule", x0, y0, x1, y1), ("raw", code)."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    fonts = {}
    for name, base in FONTS.items():
        fonts[name] = len(objects) + 1
        objects.append(f"<< /Type /Font /Subtype /Type1 /BaseFont /{base} /Encoding /WinAnsiEncoding >>")
    image = 0
    if picture:
        image = len(objects) + 1
        objects.append(
            "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8 "
            "/Length 1 >>"
            "\nstream\nx\nendstream"
        )
    kids = []
    for page in pages:
        lines = ["q 500 0 0 700 50 50 cm /Im Do Q"] if picture else []
        for one in page:
            if one[0] == "raw":
                lines.append(one[1])
            elif one[0] == "rule":
                _, x0, y0, x1, y1 = one
                lines.append(f"{x0} {792 - y0} m {x1} {792 - y1} l S")
            else:
                x, y, font, size, text = one
                text = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
                lines.append(f"BT /{font} {size} Tf {x} {792 - y} Td ({text}) Tj ET")
        stream = "\n".join(lines)
        objects.append(f"<< /Length {len(stream.encode('cp1252'))} >>\nstream\n{stream}\nendstream")
        content = len(objects)
        named = " ".join(f"/{name} {number} 0 R" for name, number in fonts.items())
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R "
            f"/Resources << /Font << {named} >>"
            f" /XObject << {f'/Im {image} 0 R' if image else ''} >> >> >>"
        )
        kids.append(len(objects))
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>"
    if encrypted:
        objects.append(f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{'41' * 32}> /U <{'42' * 32}> >>")
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252")
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    locked = f"/Encrypt {len(objects)} 0 R /ID [<00> <00>]" if encrypted else ""
    return out + f"trailer << /Size {len(objects) + 1} /Root 1 0 R {locked} >>\nstartxref\n{start}\n%%EOF\n".encode()


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def paragraph(text, style="", font=""):
    """A paragraph in the style of that id, all its letters in `font`."""
    styled = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    set_in = f'<w:rPr><w:rFonts w:ascii="{font}" w:hAnsi="{font}"/></w:rPr>' if font else ""
    return f'<w:p>{styled}<w:r>{set_in}<w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'


def table(*rows):
    cells = ("".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) for row in rows)
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"


def docx(*parts, styles=(), more=()):
    """A DOCX file of these paragraphs and tables; `styles` are (id, name) of paragraphs, `more` other parts."""
    named = "".join(
        f'<w:style w:type="paragraph" w:styleId="{key}"><w:name w:val="{escape(name)}"/></w:style>'
        for key, name in styles
    )
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    pack = "http://schemas.openxmlformats.org/package/2006"
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{pack}/content-types"><Default Extension="xml" ContentType="text/xml"/>'
        f'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{main}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{pack}/relationships"><Relationship Id="r1" '
        f'Type="{kind}/officeDocument" '
        'Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{pack}/relationships"><Relationship Id="r1" '
        f'Type="{kind}/styles" Target="styles.xml"/></Relationships>',
        "word/styles.xml": f"<w:styles {W}>{named}</w:styles>",
        "word/document.xml": f"<w:document {W}><w:body>{''.join(parts)}</w:body></w:document>",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in (*files.items(), *more):
            packed.writestr(name, text)
    return out.getvalue()
