"use strict";
(() => {
  const tip = document.getElementById("tip");
  const areas = [...document.querySelectorAll("svg .area")];
  const rows = [...document.querySelectorAll("tbody.area")];

  const light = (number, on) => {
    areas[number].classList.toggle("lit", on);
    rows[number].classList.toggle("lit", on);
  };
  const describe = (number, part) => {
    const [first, ...pages] = rows[number].dataset.tip.split("\n");
    const chosen = part === undefined ? pages : [pages[part]];
    return [first, ...chosen].join("\n");
  };
  areas.forEach((area, number) => {
    area.addEventListener("mouseenter", () => light(number, true));
    area.addEventListener("mouseleave", () => { light(number, false); tip.hidden = true; });
    area.addEventListener("mousemove", (event) => {
      const part = event.target.closest("[data-part]");
      tip.textContent = describe(number, part ? Number(part.dataset.part) : undefined);
      tip.hidden = false;
      const { width, height } = tip.getBoundingClientRect();
      const x = Math.min(event.clientX + 16, innerWidth - width - 8);
      const y = Math.min(event.clientY + 16, innerHeight - height - 8);
      tip.style.left = `${x}px`;
      tip.style.top = `${y}px`;
    });
  });
  rows.forEach((row, number) => {
    row.addEventListener("mouseenter", () => light(number, true));
    row.addEventListener("mouseleave", () => light(number, false));
  });

  const search = document.getElementById("search");
  if (!search) return;
  const files = [...document.querySelectorAll(".tree .file")];
  const directories = [...document.querySelectorAll(".tree details")];
  const initially = directories.map((directory) => directory.open);
  const found = document.getElementById("found");
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    let count = 0;
    for (const file of files) {
      const matches = file.dataset.path.toLowerCase().includes(wanted);
      file.parentElement.hidden = !matches;
      count += matches;
    }
    for (let number = directories.length - 1; number >= 0; number--) {
      const directory = directories[number];
      const shown = directory.querySelector(":scope > ul > li:not([hidden])");
      const named = directory.dataset.path.toLowerCase().includes(wanted);
      directory.parentElement.hidden = !(shown || named);
      directory.open = wanted ? Boolean(shown) : initially[number];
    }
    found.textContent = wanted ? `${count.toLocaleString("en")} found` : "";
  });
})();
