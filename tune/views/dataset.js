// The rows to read: search, filters, paging, unfolding; and tables that are sorted by their heads. Every text is put
// into the document as text. What stands behind # in the address is a filter: #kind=section&find=heap, or #row=ID.
(() => {
  "use strict";
  const PAGE = 20;
  const { rows, pages, sections } = JSON.parse(document.getElementById("data").textContent);
  const room = document.getElementById("read"), bar = room.querySelector(".filter"), table = room.querySelector("table");
  const body = table.tBodies[0], nav = room.querySelector("nav"), told = bar.querySelector("p");
  const [before, place, next] = nav.children;
  const fields = [...bar.querySelectorAll("input, select")], [find, ...picks] = fields;
  const number = (n) => n.toLocaleString("en-US");
  let fitting = rows, first = 0;

  const make = (tag, more, ...inside) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(more)) node.setAttribute(name, value);
    node.append(...inside); // strings become text
    return node;
  };
  const cell = (label, ...inside) => make("td", { "data-label": label }, ...inside);
  const question = (row) => (row.turns.filter(([who]) => who === "user").pop() || ["", ""])[1];
  const flat = (text) => text.replace(/\s+/g, " ").trim();

  for (const row of rows) {
    const said = row.turns.filter(([who]) => who !== "developer").map((turn) => turn[1]);
    row.text = [...said, ...pages[row.page], row.kind, row.id].join("\n").toLowerCase();
  }

  // What is asked stands before or behind the passage of an open book, which is quoted or fenced.
  const short = (row) => {
    const own = question(row).replace(/(`{3,})[^]*?(\1|$)/g, "").split("\n").map(flat).filter((line) => line && !/^>|:$/.test(line));
    const asks = own.filter((line) => line.endsWith("?") || /^(Question|Now answer): /.test(line));
    const line = (asks.pop() || own.pop() || flat(question(row)) || row.id).replace(/^(Question|Now answer): /, "");
    return line.length > 160 ? `${line.slice(0, 159)}…` : line;
  };

  const block = (text, length) => {
    const parts = [make("pre", { dir: "auto" }, text)];
    if (length) parts.push(make("p", { class: "cut" }, `cut: the first ${number(text.length)} of ${number(length)} characters`));
    return parts;
  };

  const names = { developer: "instructions", user: "question", system: "the format’s own message" };
  const turn = ([who, text, length, tokens, learned]) => {
    const own = who === "analysis" || who === "answer";
    const sizes = tokens < 0 ? "" : learned ? `${number(learned)} of ${number(tokens)} tokens learned` : `${number(tokens)} tokens, read and not learned`;
    const head = make("p", {}, make("b", {}, names[who] || who), " ", make("span", { class: "soft" }, sizes));
    return make("div", { class: own ? "turn own" : "turn" }, head, ...(text || own ? block(text, length) : []));
  };

  const whole = (row) => {
    const [page, title] = pages[row.page], facts = make("dl", { class: "facts" });
    const tokens = `${number(row.tokens)}, ${number(row.learned)} of them learned`;
    for (const [name, value] of [["page", title === page ? page : `${title}, ${page}`], ["from", row.from], ["check", row.check], ["tokens", tokens]])
      facts.append(make("dt", {}, name), make("dd", { dir: "auto" }, value));
    facts.append(make("dt", {}, "row"), make("dd", {}, make("a", { href: `#row=${encodeURIComponent(row.id)}`, dir: "auto" }, row.id)));
    const parts = [make("div", { class: "talk" }, ...row.turns.map(turn)), facts];
    if (row.section >= 0)
      parts.push(make("details", {}, make("summary", {}, "What the page says there"), ...block(...sections[row.section])));
    return parts;
  };

  const toggle = (button, row, id) => {
    const line = button.closest("tr"), open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) line.nextElementSibling.remove();
    else line.after(make("tr", { class: "under", id }, make("td", { colspan: "5" }, ...whole(row))));
  };

  const draw = () => {
    body.replaceChildren();
    fitting.slice(first, first + PAGE).forEach((row, n) => {
      const id = `row-${first + n}`;
      const button = make("button", { type: "button", "aria-expanded": "false", "aria-controls": id, dir: "auto" }, short(row));
      button.addEventListener("click", () => toggle(button, row, id));
      const page = make("small", { dir: "auto" }, pages[row.page][1]);
      body.append(make("tr", {}, make("th", { scope: "row" }, button, page), cell("Kind", row.kind), cell("Effort", row.effort), cell("Side", row.side), cell("Tokens", number(row.tokens))));
    });
    const last = Math.min(first + PAGE, fitting.length);
    place.textContent = fitting.length ? `${number(first + 1)} to ${number(last)} of ${number(fitting.length)}` : "";
    before.disabled = first === 0;
    next.disabled = last >= fitting.length;
    nav.hidden = fitting.length <= PAGE;
    table.hidden = !fitting.length;
  };

  const show = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean), chosen = picks.filter((pick) => pick.value);
    fitting = rows.filter((row) => words.every((word) => row.text.includes(word)) && chosen.every((pick) => row[pick.name] === pick.value));
    first = 0;
    told.textContent = `${number(fitting.length)} of ${number(rows.length)} rows`;
    draw();
  };

  const follow = () => {
    const wanted = new URLSearchParams(location.hash.slice(1)), at = rows.findIndex((row) => row.id === wanted.get("row"));
    for (const field of fields) field.value = wanted.get(field.name) || "";
    show();
    if (at >= 0) {
      first = at - (at % PAGE);
      draw();
      body.querySelectorAll("th button")[at % PAGE].click();
      body.querySelectorAll(".under")[0].previousElementSibling.scrollIntoView();
    } else if (fields.some((field) => field.value)) room.scrollIntoView();
  };

  const turnPage = (by) => {
    first += by;
    draw();
    room.scrollIntoView();
  };
  before.addEventListener("click", () => turnPage(-PAGE));
  next.addEventListener("click", () => turnPage(PAGE));
  bar.addEventListener("input", show);
  bar.hidden = table.hidden = false;
  addEventListener("hashchange", follow);
  follow();

  for (const sorted of document.querySelectorAll("table.sortable")) {
    const heads = [...sorted.tHead.rows[0].cells];
    const value = (line, column) => {
      const here = line.cells[column];
      return here.dataset.v === undefined ? here.textContent.trim() : Number(here.dataset.v);
    };
    const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en"));
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const now = head.getAttribute("aria-sort"), lines = [...sorted.tBodies[0].rows];
        const numeric = lines.some((line) => line.cells[column].dataset.v !== undefined);
        const down = now === "none" ? numeric : now === "ascending";
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        lines.sort((a, b) => (down ? -1 : 1) * compare(value(a, column), value(b, column)));
        sorted.tBodies[0].append(...lines);
      });
    });
  }
})();
