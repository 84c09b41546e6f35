// The page asks for the states and one sheet with all small pictures, a second
// apart, while somebody sees it.
const wall = document.getElementById("wall");
const by = (id) => document.getElementById(id);
let page = 0;
let pages = 1;
let sheet = "";

function tile(n) {
  while (wall.children.length <= n) {
    const a = document.createElement("article");
    a.append(...["glass", "token", "says"].map((name) => {
      const e = document.createElement(name === "glass" ? "div" : "p");
      e.className = name;
      return e;
    }));
    wall.append(a);
  }
  return wall.children[n];
}

function show(s) {
  by("head").textContent = s.head;
  pages = Math.max(1, s.pages);
  by("part").textContent = `${s.first} to ${s.first + s.tiles.length - 1} of ${s.total}`;
  by("back").disabled = page === 0;
  by("on").disabled = page + 1 >= pages;
  s.tiles.forEach((t, n) => {
    const a = tile(n);
    const [glass, token, says] = a.children;
    a.className = t.wrong ? "wrong" : t.state;
    a.title = `terminal ${t.terminal}, ${t.server || "no server"}${t.wrong ? `, ${t.wrong} violations` : ""}`;
    glass.style.cssText = `width:${s.width}px;height:${s.height}px;background-image:url(${sheet});background-position:${-(n % s.columns) * s.width}px ${-Math.floor(n / s.columns) * s.height}px`;
    token.textContent = (t.token || t.card || "no card").replace(/\.0{4,}/, ".…"); // it is the end that tells cards apart
    says.textContent = t.says || t.server;
  });
  while (wall.children.length > s.tiles.length) wall.lastChild.remove();
}

async function once() {
  const [state, picture] = await Promise.all([fetch(`state?page=${page}`), fetch(`sheet?page=${page}`)]);
  if (!state.ok || !picture.ok) {
    page = 0;
    return;
  }
  const bytes = new Uint8Array(await picture.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  sheet = `data:image/png;base64,${btoa(text)}`;
  show(await state.json());
}

async function loop() {
  try {
    if (!document.hidden) await once();
  } catch {
    by("head").textContent = "The fleet has ended.";
  }
  setTimeout(loop, 1000);
}

by("back").onclick = () => { page = Math.max(0, page - 1); once(); };
by("on").onclick = () => { page = Math.min(pages - 1, page + 1); once(); };
loop();
