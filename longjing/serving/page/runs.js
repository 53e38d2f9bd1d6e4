// Runs once for each component; what is in it may be replaced at any time, so that nothing is kept of it.
let tip = document.getElementById("token-tip");
if (!tip) {
  tip = document.createElement("div");
  tip.id = "token-tip";
  tip.hidden = true;
  document.body.append(tip);
}
const point = event => {
  const token = event.target.closest?.("[data-facts]");
  tip.hidden = !token;
  if (!token) return;
  tip.textContent = token.dataset.facts;
  const box = token.getClientRects()[0] ?? token.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = (box.top > 48 ? box.top - tip.offsetHeight - 6 : box.bottom + 6) + "px";
};
element.addEventListener("pointerover", point);
element.addEventListener("click", point);
element.addEventListener("pointerleave", () => { tip.hidden = true; });
addEventListener("scroll", () => { tip.hidden = true; }, { capture: true, passive: true });

const leave = plot => {
  plot.querySelector(".tip").hidden = true;
  plot.querySelector(".cursor").setAttribute("visibility", "hidden");
};
element.addEventListener("pointerout", event => {
  const plot = event.target.closest?.(".plot");
  if (plot && !plot.contains(event.relatedTarget)) leave(plot);
});
element.addEventListener("pointermove", event => {
  const svg = event.target.closest?.(".plot svg");
  if (!svg) return;
  const plot = svg.parentElement, tip = plot.querySelector(".tip"), cursor = svg.querySelector(".cursor");
  const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * 440;
  const nearer = (best, point) => Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best;
  const near = [...svg.querySelectorAll("g")].map(g => [g.dataset.label, JSON.parse(g.dataset.hover)])
    .filter(([, points]) => points.length).map(([label, points]) => [label, points.reduce(nearer)]);
  const at = near.map(([, point]) => point).reduce(nearer);
  tip.textContent = `step ${at[1]}\n` + near.filter(([, point]) => Math.abs(point[0] - at[0]) < 3)
    .map(([label, point]) => `${label}: ${point[2]}`).join("\n");
  cursor.setAttribute("x1", at[0]);
  cursor.setAttribute("x2", at[0]);
  cursor.setAttribute("visibility", "visible");
  tip.hidden = false;
  const left = at[0] / 440 * box.width;
  tip.style.left = (left > box.width / 2 ? left - tip.offsetWidth - 10 : left + 10) + "px";
});
