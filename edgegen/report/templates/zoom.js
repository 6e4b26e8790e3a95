// A click enlarges a picture; the arrow keys then step through its row in place, so that differences flicker.
(() => {
  const dialog = document.getElementById("zoom");
  const picture = document.createElement("img");
  const title = document.createElement("p");
  let row = [], index = 0;
  const show = (next) => {
    index = (next + row.length) % row.length;
    picture.src = row[index].src;
    picture.alt = row[index].alt;
    picture.className = row[index].className;
    title.textContent = row[index].alt;
  };
  for (const group of document.querySelectorAll(".row")) {
    const images = [...group.querySelectorAll("button img")];
    images.forEach((image, position) => image.parentElement.addEventListener("click", () => {
      row = images;
      show(position);
      dialog.append(picture, title);
      dialog.showModal();
    }));
  }
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(index + 1);
    if (event.key === "ArrowLeft") show(index - 1);
  });
})();
