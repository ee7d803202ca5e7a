// Filters the changed questions: by words of theirs, and by what stands behind # in the address, such as #find=len&kind=value.
(() => {
  const bar = document.querySelector(".filter");
  if (!bar) return;
  const find = bar.querySelector("input"), picks = [...bar.querySelectorAll("select")], told = bar.querySelector("p");
  const efforts = [...document.querySelectorAll("details.effort")].map((node) => ({ node, open: node.open }));
  const flips = [...document.querySelectorAll("details.flip")].map((node) => ({
    node,
    text: [...node.querySelectorAll("pre, code")].map((part) => part.textContent).join("\n").toLowerCase(),
  }));
  const show = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean), chosen = picks.filter((pick) => pick.value);
    let count = 0;
    for (const { node, text } of flips) {
      const fits = words.every((word) => text.includes(word)) && chosen.every((pick) => node.dataset[pick.name] === pick.value);
      node.hidden = !fits;
      count += fits;
    }
    const filtered = words.length + chosen.length > 0;
    for (const { node, open } of efforts) {
      const some = node.querySelector("details.flip:not([hidden])") !== null;
      node.hidden = filtered && !some;
      node.open = filtered ? some : open;
    }
    told.textContent = `${count} of ${flips.length} shown, of ${told.dataset.all} that changed`;
  };
  const follow = () => {
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const field of [find, ...picks]) field.value = wanted.get(field.name) || "";
    show();
  };
  bar.hidden = false;
  bar.addEventListener("input", show);
  addEventListener("hashchange", follow);
  follow();
})();
