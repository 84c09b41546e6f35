// The desk between the terminals: cards go from one to the other. The
// terminals are frames of this origin; they tell their states, and where their
// slots are is looked up in them.
import { Desk, post } from "./desk.js";

const scene = document.getElementById("scene");
const frames = [...document.querySelectorAll("iframe")];

// within is the rectangle of an element of a frame, in this page's coordinates.
function within(frame, id) {
  const f = frame.getBoundingClientRect();
  const el = frame.contentDocument?.getElementById(id);
  if (!el) return new DOMRect(f.left + f.width / 2, f.bottom - 90, 0, 0); // not there yet
  const r = el.getBoundingClientRect();
  return new DOMRect(f.left + r.left, f.top + r.top, r.width, r.height);
}

const desk = new Desk({
  root: scene,
  tray: document.getElementById("tray"),
  slots: frames.map((frame) => ({
    name: frame.dataset.name,
    slit: () => within(frame, "slot"),
    zone: () => {
      const m = within(frame, "monitor"), s = within(frame, "stand");
      return new DOMRect(m.left, m.top, m.width, s.bottom - m.top - 30);
    },
    stand: () => within(frame, "stand"),
    near: (yes) => frame.contentDocument?.getElementById("slot")?.classList.toggle("near", yes),
  })),
  move: async (card, to) => {
    const states = await post("api/move", { card, terminal: to });
    states.forEach((s, i) => { desk.states[i] = s.cards; });
  },
});

addEventListener("message", (e) => {
  const i = frames.findIndex((f) => f.contentWindow === e.source);
  if (e.origin !== location.origin || i < 0) return;
  if (e.data.hotdesk === "state") desk.update(i, e.data.state.cards);
  if (e.data.hotdesk === "layout") desk.layout();
});
new ResizeObserver(() => desk.layout()).observe(scene);
