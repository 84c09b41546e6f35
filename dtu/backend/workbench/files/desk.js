// Cards on a desk, and slots that they go into: by dragging, by click and by
// keyboard.

const CHIP = `<svg class="chip" viewBox="0 0 28 24" aria-hidden="true"><rect x=".5" y=".5" width="27" height="23" rx="4" fill="#e8cf8a" stroke="#a98d45"/><path d="M0 8h9v8H0M28 8h-9v8h9M9 8V.5M19 8V.5M9 16v7.5M19 16v7.5M9 12h10" fill="none" stroke="#a98d45"/></svg>`;

const IN = 0.52; // of a card's length, what a slot hides

// Desk places the cards named in cards.
//
//   root    the element that cards are children of, positioned
//   tray    the element that cards lie on while they are in no slot
//   slots   for each: name; slit(), zone(), stand(): rectangles in client
//           coordinates of the opening, of where a card may be dropped, and of
//           where no card may lie; near(bool) to show that a drop would hit
//   move    (card, slot number or null, slot number it is in or null): promise
export class Desk {
  constructor({ root, tray, slots, move }) {
    Object.assign(this, { root, tray, slots, move, cards: [], states: slots.map(() => []) });
    this.said = document.createElement("p");
    this.said.className = "sr";
    this.said.setAttribute("role", "status");
    root.append(this.said);
    addEventListener("pointerdown", (e) => { if (this.choice && !this.choice.contains(e.target)) this.dismiss(); }, true);
  }

  // update takes what slot number i says of all cards: [{name, inserted}].
  update(i, states) {
    this.states[i] = states;
    for (const { name } of states) if (!this.cards.some((c) => c.name === name)) this.add(name);
    const gone = this.cards.filter((c) => !this.states.some((s) => s.some((x) => x.name === c.name)));
    for (const c of gone) c.el.remove();
    this.cards = this.cards.filter((c) => !gone.includes(c));
    this.layout();
  }

  add(name) {
    const el = document.createElement("button");
    el.type = "button";
    el.className = `card tone${this.cards.length % 6}`;
    el.dataset.card = name;
    el.innerHTML = `${CHIP}<span class="name"></span><span class="kind">hotdesk</span>`;
    el.querySelector(".name").textContent = name;
    const card = { name, el, slot: undefined, busy: false, tilt: [-2.5, 1.5, -1, 2.5, -1.5, 1][this.cards.length % 6] };
    el.addEventListener("pointerdown", (e) => this.grab(card, e));
    el.addEventListener("click", (e) => { if (e.detail === 0) this.act(card); }); // by keyboard
    this.root.append(el);
    this.cards.push(card);
  }

  // layout puts every card where it belongs.
  layout() {
    this.homes();
    for (const c of this.cards) {
      if (c.busy) continue;
      const i = this.states.findIndex((s) => s.some((x) => x.name === c.name && x.inserted));
      this.put(c, i < 0 ? null : i);
    }
  }

  // homes finds each card its place on the tray: side by side, from the middle
  // outwards, clear of what stands there.
  homes() {
    if (!this.cards.length) return;
    const origin = this.root.getBoundingClientRect();
    const tray = this.tray.getBoundingClientRect();
    const w = this.cards[0].el.offsetWidth, h = this.cards[0].el.offsetHeight;
    const gap = 18;
    const avoid = this.slots.map((s) => s.stand()).filter((r) => r.bottom > tray.top && r.width);
    const middle = (tray.left + tray.right) / 2;
    const y = tray.top + (tray.height - h) / 2 - origin.top;
    const spans = []; // free stretches of the tray
    let left = tray.left;
    for (const r of [...avoid].sort((a, b) => a.left - b.left)) {
      if (r.left - gap - left >= w) spans.push([left, r.left - gap]);
      left = Math.max(left, r.right + gap);
    }
    if (tray.right - left >= w) spans.push([left, tray.right]);
    if (!spans.length) spans.push([tray.left, tray.right]);
    // Share the cards out among the stretches, the ones nearest the middle
    // first, no more than each holds.
    const room = spans.map(([a, b]) => ({ a, b, n: 0, fits: Math.max(1, Math.floor((b - a + gap) / (w + gap))), off: Math.abs((a + b) / 2 - middle) }));
    for (const _ of this.cards) {
      const free = room.filter((r) => r.n < r.fits);
      const best = (free.length ? free : room).reduce((x, r) => (Math.round(r.off / 40) < Math.round(x.off / 40) || (Math.round(r.off / 40) === Math.round(x.off / 40) && r.n / r.fits < x.n / x.fits) ? r : x));
      best.n++;
    }
    const places = [];
    for (const r of room) {
      const step = r.n > r.fits ? (r.b - r.a - w) / Math.max(1, r.n - 1) : w + gap;
      const all = step * (r.n - 1) + w;
      const at = avoid.length === 1 ? (r.a > middle ? r.a + 6 : r.b - all - 6) : (r.a + r.b - all) / 2;
      for (let i = 0; i < r.n; i++) places.push(Math.max(r.a, at) + i * step - origin.left);
    }
    places.sort((a, b) => a - b);
    this.cards.forEach((c, i) => { c.home = { x: places[i], y }; });
  }

  // put shows card in slot number i, or at home when i is null.
  put(card, i) {
    const { el } = card;
    if (card.slot === undefined) { // it was always there
      card.slot = i;
      el.style.transition = "none";
      this.put(card, i);
      el.offsetWidth; // settles the styles
      el.style.transition = "";
      return;
    }
    const before = card.slot;
    card.slot = i;
    el.classList.toggle("in", i !== null);
    if (i === null) {
      el.style.clipPath = "inset(-40px)";
      el.style.transform = `translate(${card.home.x}px, ${card.home.y}px) rotate(${card.tilt}deg)`;
      el.setAttribute("aria-label", `Card ${card.name}, on the desk`);
      return;
    }
    el.setAttribute("aria-label", `Card ${card.name}, in ${this.slots[i].name}; pull it out`);
    const at = this.inSlot(card, i);
    if (before === i || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.slide(card, at, at.hidden);
      return;
    }
    this.slide(card, at, 0); // to below the slot, then in
    setTimeout(() => { if (card.slot === i && !el.classList.contains("held")) this.slide(card, this.inSlot(card, i), at.hidden); }, 200);
  }

  inSlot(card, i) {
    const origin = this.root.getBoundingClientRect();
    const slit = this.slots[i].slit();
    const h = card.el.offsetHeight;
    return { x: (slit.left + slit.right - card.el.offsetWidth) / 2 - origin.left, y: (slit.top + slit.bottom) / 2 - origin.top, hidden: Math.round(h * IN) };
  }

  slide(card, at, hidden) {
    card.el.style.clipPath = `inset(${hidden > 0 ? `${hidden}px` : "-40px"} -40px -40px -40px)`;
    card.el.style.transform = `translate(${at.x}px, ${at.y - hidden}px)`;
  }

  // act is a click or Enter on a card.
  act(card) {
    if (card.busy) return;
    if (card.slot !== null) return this.send(card, null);
    if (this.slots.length === 1) return this.send(card, 0);
    this.choose(card);
  }

  // choose asks which slot a card is for.
  choose(card) {
    this.dismiss();
    const box = document.createElement("div");
    box.className = "choice";
    box.setAttribute("role", "menu");
    this.slots.forEach((s, i) => {
      const b = document.createElement("button");
      b.type = "button";
      b.setAttribute("role", "menuitem");
      b.textContent = `Insert into ${s.name}`;
      b.addEventListener("click", () => { this.dismiss(); this.send(card, i); card.el.focus(); });
      box.append(b);
    });
    box.addEventListener("keydown", (e) => {
      const all = [...box.children], i = all.indexOf(document.activeElement);
      if (e.key === "Escape") { this.dismiss(); card.el.focus(); }
      if (e.key === "ArrowDown") all[(i + 1) % all.length].focus();
      if (e.key === "ArrowUp") all[(i + all.length - 1) % all.length].focus();
    });
    this.root.append(box);
    const origin = this.root.getBoundingClientRect(), r = card.el.getBoundingClientRect();
    const x = Math.min(Math.max(8, r.left + r.width / 2 - box.offsetWidth / 2 - origin.left), origin.width - box.offsetWidth - 8);
    box.style.left = `${x}px`;
    box.style.top = `${r.top - origin.top - box.offsetHeight - 8}px`;
    this.choice = box;
    box.firstChild.focus();
  }

  dismiss() {
    this.choice?.remove();
    this.choice = null;
  }

  // grab follows the pointer from its press to its release. Hardly moved, it
  // was a click.
  grab(card, down) {
    if (down.button !== 0 || card.busy) return;
    const { el } = card;
    el.setPointerCapture(down.pointerId);
    const origin = this.root.getBoundingClientRect();
    const r = el.getBoundingClientRect();
    const start = card.slot === null ? card.home : { x: r.left - origin.left, y: r.top - origin.top };
    let moved = false, over = -1;
    const move = (e) => {
      const dx = e.clientX - down.clientX, dy = e.clientY - down.clientY;
      if (!moved && Math.hypot(dx, dy) < 5) return;
      if (!moved) {
        moved = true;
        this.dismiss();
        el.classList.add("held");
        this.root.classList.add("dragging");
        el.style.clipPath = "inset(-40px)";
      }
      el.style.transform = `translate(${start.x + dx}px, ${start.y + dy}px) rotate(1deg)`;
      const now = this.hit(card, e);
      if (now !== over) {
        this.slots.forEach((s, i) => s.near(i === now));
        over = now;
      }
    };
    const end = (e) => {
      el.removeEventListener("pointermove", move);
      el.removeEventListener("pointerup", end);
      el.removeEventListener("pointercancel", end);
      el.classList.remove("held");
      this.root.classList.remove("dragging");
      this.slots.forEach((s) => s.near(false));
      if (!moved) {
        if (e.type === "pointerup") this.act(card);
        return;
      }
      const to = e.type === "pointerup" && over >= 0 ? over : null;
      if (e.type !== "pointerup" || to === card.slot) this.layout();
      else this.send(card, to);
    };
    el.addEventListener("pointermove", move);
    el.addEventListener("pointerup", end);
    el.addEventListener("pointercancel", end);
  }

  // hit is the slot that a drop at e goes into, or -1. Pulled from its slot, a
  // card is out when it is below the terminal again.
  hit(card, e) {
    return this.slots.findIndex((s, i) => {
      const z = s.zone();
      if (e.clientX < z.left || e.clientX > z.right || e.clientY < z.top) return false;
      if (i === card.slot) return e.clientY < s.slit().bottom + card.el.offsetHeight * (1 - IN) + 14;
      return e.clientY < z.bottom;
    });
  }

  // send moves a card for good: it is shown there at once, and back where it
  // really is when that fails.
  async send(card, to) {
    const from = card.slot;
    card.busy = true;
    card.el.setAttribute("aria-busy", "true");
    this.put(card, to);
    try {
      await this.move(card.name, to, from);
      this.said.textContent = to === null ? `Card ${card.name} is on the desk.` : `Card ${card.name} is in ${this.slots[to].name}.`;
    } catch (err) {
      this.toast(err.message);
    }
    card.busy = false;
    card.el.removeAttribute("aria-busy");
    this.layout();
  }

  toast(text) {
    const t = document.createElement("p");
    t.className = "toast";
    t.setAttribute("role", "alert");
    t.textContent = text;
    this.root.append(t);
    setTimeout(() => t.remove(), 6000);
  }
}

// post sends a request and returns the answer; what went wrong is an Error
// with words for a person.
export async function post(path, body) {
  let r;
  try {
    r = await fetch(path, { method: "POST", body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The terminal's program does not answer. Is it still running?");
  }
  const text = await r.text();
  let answer = null;
  try { answer = JSON.parse(text); } catch { /* plain text of a refusal */ }
  if (!r.ok) throw new Error(answer?.error ?? (text.trim() || `The terminal's program answered ${r.status}.`));
  return answer;
}
