// The canvas of StrokePainter. Strokes are kept as lines, not as pixels: undo drops the last line, and Python paints
// the same lines by the same rule (strokes.py).

const ERASER = "";
const MASKED = [214, 39, 140]; // how a mask is shown: the picture, half covered
const STYLE = `
  .sp-root {
    font: 13px/1.4 system-ui, sans-serif;
    color: var(--jp-ui-font-color1, #1f2328);
  }
  .sp-board {
    position: relative;
    width: fit-content;
    line-height: 0;
    overflow: hidden;
  }
  .sp-canvas {
    image-rendering: pixelated;
    cursor: crosshair;
    touch-action: none;
    max-width: 100%;
    outline: 1px solid #8c959f;
    outline-offset: -1px;
  }
  .sp-canvas:focus-visible, .sp-root button:focus-visible {
    outline: 3px solid #0072b2;
  }
  .sp-cursor {
    position: absolute;
    width: 15px;
    height: 15px;
    margin: -8px 0 0 -8px;
    border: 1px solid #fff;
    outline: 1px solid #000;
    border-radius: 50%;
    pointer-events: none;
  }
  .sp-row {
    display: flex;
    flex-wrap: wrap;
    gap: 3px;
    align-items: center;
    margin-top: 6px;
  }
  .sp-swatch {
    width: 22px;
    height: 22px;
    padding: 0;
    border: 1px solid #8c959f;
    border-radius: 4px;
    cursor: pointer;
  }
  .sp-button {
    height: 24px;
    padding: 0 8px;
    border: 1px solid #8c959f;
    border-radius: 4px;
    background: transparent;
    color: inherit;
    cursor: pointer;
  }
  .sp-root button[aria-pressed="true"] {
    box-shadow: 0 0 0 2px #fff, 0 0 0 4px #0072b2;
  }
  .sp-row input[type="range"] {
    width: 90px;
    vertical-align: middle;
  }
`;

function covers(points, width, x, y) {
  if (points.length === 0) return true;
  const reach = (width * width) / 4;
  for (let i = 0; i < points.length; i++) {
    const [ax, ay] = points[i];
    const [bx, by] = points[Math.min(i + 1, points.length - 1)];
    const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
    let along = length ? ((x - ax) * dx + (y - ay) * dy) / length : 0;
    along = Math.min(1, Math.max(0, along));
    const offX = x - (ax + along * dx), offY = y - (ay + along * dy);
    if (offX * offX + offY * offY <= reach) return true;
  }
  return false;
}

function paint(stroke, state) {
  const { size, base, picture, touched } = state;
  const colour = [1, 3, 5].map((at) => parseInt(stroke.colour.slice(at, at + 2), 16));
  for (let y = 0, at = 0; y < size; y++) {
    for (let x = 0; x < size; x++, at++) {
      if (!covers(stroke.points, stroke.width, x + 0.5, y + 0.5)) continue;
      touched[at] = stroke.colour === ERASER ? 0 : 1;
      for (let c = 0; c < 3; c++)
        picture[3 * at + c] = stroke.colour === ERASER ? base[3 * at + c] : colour[c];
    }
  }
}

function element(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

function render({ model, el }) {
  const size = model.get("size"), maskMode = model.get("mode") === "mask";
  const canvas = element("canvas", { width: size, height: size, tabIndex: 0, className: "sp-canvas" });
  const cursor = element("div", { className: "sp-cursor", hidden: true });
  const says = element("span", { className: "sp-says" });
  const edge = size * model.get("factor");
  canvas.style.width = `${edge}px`;
  canvas.setAttribute("role", "application");
  canvas.setAttribute(
    "aria-label",
    `${model.get("alt")}. Paint with the mouse, or move with the arrow keys, lower and lift the brush with space.`
  );
  says.setAttribute("role", "status");

  let colour = maskMode ? "#ffffff" : model.get("colour");
  let stroke = null; // the line being drawn
  let settled = null; // pixels after all finished strokes
  let pen = [size / 2, size / 2]; // where the keyboard's brush is

  function settle() {
    const bytes = model.get("base");
    const base = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    settled = { size, base, picture: base.slice(), touched: new Uint8Array(size * size) };
    for (const each of model.get("strokes")) paint(each, settled);
    show();
  }

  function show() {
    const state = { ...settled, picture: settled.picture.slice(), touched: settled.touched.slice() };
    if (stroke) paint(stroke, state);
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    for (let at = 0; at < size * size; at++) {
      for (let c = 0; c < 3; c++) {
        const shown = maskMode ? state.base[3 * at + c] : state.picture[3 * at + c];
        image.data[4 * at + c] = maskMode && state.touched[at] ? (shown + MASKED[c]) >> 1 : shown;
      }
      image.data[4 * at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  const setStrokes = (strokes) => {
    model.set("strokes", strokes);
    model.save_changes();
  };
  const begin = (point) => (stroke = { colour, width: Number(brush.value), points: [point] });
  const finish = () => {
    if (!stroke) return;
    const done = stroke;
    stroke = null;
    setStrokes([...model.get("strokes"), done]);
  };
  const undo = () => setStrokes(model.get("strokes").slice(0, -1));
  const tenth = (value) => Math.round(value * 10) / 10;

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((v) =>
      tenth(v * size)
    );
  }
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    cursor.hidden = true;
    begin(place(event));
    show();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke || !canvas.hasPointerCapture(event.pointerId)) return;
    stroke.points.push(place(event));
    show();
  });
  canvas.addEventListener("pointerup", finish);
  canvas.addEventListener("pointercancel", finish);

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function follow() {
    cursor.hidden = false;
    Object.assign(cursor.style, { left: `${(pen[0] / size) * 100}%`, top: `${(pen[1] / size) * 100}%` });
    says.textContent = `brush ${stroke ? "down" : "up"} at ${pen.map(Math.round).join(", ")}`;
    show();
  }
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (move) {
      const far = event.shiftKey ? 8 : 2;
      pen = pen.map((at, axis) => Math.min(size, Math.max(0, at + far * move[axis])));
      if (stroke) stroke.points.push([...pen]);
    } else if (event.key === " " || event.key === "Enter") {
      if (stroke) finish();
      else begin([...pen]);
    } else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
      undo();
    } else return;
    event.preventDefault();
    event.stopPropagation();
    follow();
  });
  canvas.addEventListener("blur", () => {
    cursor.hidden = true;
    finish();
  });

  const button = (text, action) => {
    const made = element("button", { type: "button", textContent: text, className: "sp-button" });
    made.addEventListener("click", action);
    return made;
  };
  const choices = [];
  function choose(value) {
    colour = value;
    for (const each of choices) each.setAttribute("aria-pressed", String(each.dataset.colour === value));
  }
  function choice(name, value, className) {
    const made = button(className === "sp-swatch" ? "" : name, () => choose(value));
    Object.assign(made, { className, title: name });
    made.setAttribute("aria-label", name);
    made.dataset.colour = value;
    if (className === "sp-swatch") made.style.background = value;
    choices.push(made);
    return made;
  }
  const palette = maskMode
    ? [choice("mask", "#ffffff", "sp-button")]
    : Object.entries(model.get("palette")).map(([name, value]) => choice(name, value, "sp-swatch"));
  const eraser = choice("eraser", ERASER, "sp-button");
  const brush = element("input", { type: "range", min: 1, max: 24, step: 1, value: model.get("brush") });
  const tools = [
    button("fill", () => setStrokes([...model.get("strokes"), { colour, width: 1, points: [] }])),
    button("undo", undo),
    button("clear", () => setStrokes([])),
  ];
  const root = element(
    "div",
    { className: "sp-root" },
    element("div", { className: "sp-board" }, canvas, cursor),
    element("div", { className: "sp-row" }, ...palette),
    element("div", { className: "sp-row" }, element("label", {}, "brush ", brush), eraser, ...tools),
    says
  );
  root.style.maxWidth = `${edge}px`;
  for (const each of root.querySelectorAll("canvas, button, input"))
    each.setAttribute("data-lm-suppress-shortcuts", "true"); // else JupyterLab takes their keys
  el.append(element("style", { textContent: STYLE }), root);
  choose(colour);
  settle();

  model.on("change:strokes", settle);
  model.on("change:base", settle);
  return () => {
    model.off("change:strokes", settle);
    model.off("change:base", settle);
  };
}

export default { render };
