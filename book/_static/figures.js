// Figures that can be played with. Without this script they are pictures.
// What moves in an SVG has an id that begins with "play-" (vdsr/study/lessons.py,
// notebooks/recipe.ipynb).
"use strict";

/** Put sliders above a figure's caption, and return them. */
function addSliders(figure, sliders, onInput) {
  const panel = document.createElement("div");
  panel.className = "play";
  const inputs = sliders.map(({ name, min, max, step, value }) => {
    const label = panel.appendChild(document.createElement("label"));
    label.append(name);
    const input = label.appendChild(document.createElement("input"));
    Object.assign(input, { type: "range", min, max, step, value });
    input.addEventListener("input", onInput);
    return input;
  });
  figure.querySelector("figcaption").before(panel);
  return inputs;
}

/** Say a slider's value beside it, to the eye and to a screen reader. */
function say(input, text) {
  let output = input.nextElementSibling;
  if (!output) output = input.parentNode.appendChild(document.createElement("output"));
  output.textContent = text;
  input.setAttribute("aria-valuetext", text);
}

/** The step as a function of the gradient: each line rises with slope 1 up to its corner. */
function playClipping(figure) {
  const frame = figure.querySelector('[id^="play-frame"] path');
  const lines = [...figure.querySelectorAll('[id^="play-line"]')];
  if (!frame) return;
  const [left, right, bottom, top] = frame.parentNode.id.split("_").slice(1).map(Number);
  const box = frame.getBBox();
  const point = (gradient, step) =>
    [box.x + ((gradient - left) / (right - left)) * box.width,
     box.y + ((top - step) / (top - bottom)) * box.height].join(" ");
  const decimal = (power) => String(Number((10 ** power).toPrecision(2)));

  const draw = () => { // all in powers of ten
    const [gamma, theta] = inputs.map((input) => Number(input.value));
    say(inputs[0], decimal(gamma));
    say(inputs[1], decimal(theta));
    for (const line of lines) {
      const name = line.id.split("_")[1];
      const corner = { none: right + 10, theta: theta - gamma }[name] ?? Number(name);
      const points = [point(left, left + gamma)];
      if (corner < left) points[0] = point(left, corner + gamma);
      else points.push(point(corner, corner + gamma));
      if (corner < right) points.push(point(right, corner + gamma));
      line.querySelector("path").setAttribute("d", `M ${points.join(" L ")}`);
    }
  };
  const inputs = addSliders(figure, [
    { name: "γ", min: -4, max: 0, step: 0.1, value: -1 },
    { name: "θ", min: -6, max: -2, step: 0.1, value: -4 },
  ], draw);
  draw();
}

/** The receptive field, one more square with each layer. */
function playField(figure) {
  const squares = [...figure.querySelectorAll('[id^="play-field"] path')];
  if (!squares.length) return;
  const label = figure.querySelector("#play-label");
  if (label) label.style.display = "none"; // it speaks of the last layer alone
  const draw = () => {
    const layers = Number(inputs[0].value);
    const side = 2 * layers + 1;
    say(inputs[0], `${layers}: ${side}×${side} pixels`);
    squares.forEach((square, i) => {
      square.style.strokeWidth = i === layers ? 2.5 : 0.7;
      square.style.visibility = i <= layers ? "" : "hidden";
    });
  };
  const inputs = addSliders(figure, [
    { name: "layers", min: 0, max: squares.length - 1, step: 1, value: squares.length - 1 },
  ], draw);
  draw();
}

/** Pictures one below the other, of which one is seen at a time; the last one at first. */
function playFrames(figure) {
  const strip = figure.querySelector(".frames");
  const picture = strip.querySelector("img");
  const labels = JSON.parse(strip.dataset.labels);
  const last = labels.length - 1;
  const draw = () => {
    const place = Number(inputs[0].value);
    say(inputs[0], labels[place]);
    picture.style.objectPosition = `0 ${(100 * place) / last}%`;
    picture.alt = labels[place];
  };
  const inputs = addSliders(figure, [
    { name: strip.dataset.name, min: 0, max: last, step: 1, value: last },
  ], draw);
  draw();
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("figure.play-clipping").forEach(playClipping);
  document.querySelectorAll("figure.play-field").forEach(playField);
  document.querySelectorAll("figure.play-frames").forEach(playFrames);
});
