for (const svg of document.querySelectorAll(".plot svg")) {
  const tip = svg.nextElementSibling, cursor = svg.querySelector(".cursor");
  const traces = [...svg.querySelectorAll("g")].map(g => [g.dataset.label, JSON.parse(g.dataset.hover)]);
  const hide = () => { tip.hidden = true; cursor.setAttribute("visibility", "hidden"); };
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * 440;
    const near = traces.filter(([, points]) => points.length).map(([label, points]) =>
      [label, points.reduce((best, point) => Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best)]);
    const at = near.map(([, point]) => point).reduce((best, point) => Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best);
    tip.textContent = `step ${at[1]}\n` + near.filter(([, point]) => Math.abs(point[0] - at[0]) < 3).map(([label, point]) => `${label}: ${point[2]}`).join("\n");
    cursor.setAttribute("x1", at[0]); cursor.setAttribute("x2", at[0]); cursor.setAttribute("visibility", "visible");
    tip.hidden = false;
    const left = at[0] / 440 * box.width;
    tip.style.left = (left > box.width / 2 ? left - tip.offsetWidth - 10 : left + 10) + "px";
  });
  svg.addEventListener("pointerleave", hide);
}
