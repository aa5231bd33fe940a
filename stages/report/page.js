"use strict";
const choose = document.getElementById("choose");
if (choose) {
  const list = document.getElementById("errors"), cards = [...list.children], said = choose.querySelector("output");
  const sure = (card) => Number(card.dataset.confidence);
  const by = (name) => (one, other) =>
    one.dataset[name] < other.dataset[name] ? -1 : one.dataset[name] > other.dataset[name] ? 1 : sure(other) - sure(one);
  const orders = {
    most: (one, other) => sure(other) - sure(one), least: (one, other) => sure(one) - sure(other),
    actual: by("actual"), predicted: by("predicted"), file: by("file"),
  };
  const wanted = (card) => {
    const { actual, predicted, low, high } = choose.elements;
    return (!actual.value || card.dataset.actual === actual.value)
      && (!predicted.value || card.dataset.predicted === predicted.value)
      && sure(card) >= Number(low.value || 0) / 100 && sure(card) <= Number(high.value || 100) / 100;
  };
  const show = () => {
    for (const card of cards) card.hidden = !wanted(card);
    list.append(...cards.sort(orders[choose.elements.order.value]));
    said.value = `${cards.filter((card) => !card.hidden).length} of ${cards.length} shown`;
  };
  choose.addEventListener("input", show);
  choose.addEventListener("submit", (event) => event.preventDefault());
  choose.hidden = false;
  show();
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const each of document.querySelectorAll(".larger[open]")) each.open = false;
});
