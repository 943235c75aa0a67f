// Words and phones over time, each as wide as it is long; the surer, the more coloured.

// `spans` have `start` and `end` in seconds, a `confidence` and a name; a span without times is left out.
// `chosen(span)` is called when one is clicked; without it they cannot be.
export const drawTier = (tier, spans, name, seconds, chosen) => {
  tier.replaceChildren(...spans.filter(({ start }) => start !== null).map((span) => {
    const box = document.createElement(chosen ? "button" : "span");
    box.textContent = span[name];
    const sure = `${Math.round(100 * span.confidence)} % sure`;
    box.title = `${span[name]}: ${span.start.toFixed(2)} to ${span.end.toFixed(2)} s, ${sure}`;
    box.style.left = `${(100 * span.start) / seconds}%`;
    box.style.width = `${(100 * (Math.min(span.end, seconds) - span.start)) / seconds}%`;
    box.style.setProperty("--share", `${Math.round(45 * span.confidence)}%`);
    if (chosen) {
      box.type = "button";
      box.addEventListener("click", (event) => {
        event.stopPropagation();  // a click on a plot moves the cursor
        chosen(span);
      });
    }
    return box;
  }));
};
