// What is drawn of an answer and of the catalogue.  All text is set as text, never as HTML.
const AGAIN = 1500; // milliseconds until a picture that did not come is asked for once more

export function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

// Ask once more for a picture that does not come (a busy server says so), then leave it to `missing`.
export function patient(image, address, missing) {
  image.addEventListener("error", () => {
    image.addEventListener("error", missing, { once: true });
    setTimeout(() => { image.src = address; }, AGAIN);
  }, { once: true });
  image.src = address;
}

export function naming(predicted) {
  const percent = `${Math.round(predicted.probability * 100)}%`;
  const fill = element("span", "");
  fill.style.width = percent;
  return [`Looks like: ${predicted.label} (${percent})`, element("span", "bar", fill)];
}

function value(key, given) {
  if (!/^https?:\/\//.test(given)) return `${key}: ${given}`;
  const link = element("a", "", key);
  Object.assign(link, { href: given, rel: "noopener noreferrer", target: "_blank" });
  return link;
}

export function card(template, hit, more) {
  const node = template.content.cloneNode(true);
  const name = hit.label || "item";
  const { external_id: owners, split, ...others } = hit.payload;
  const image = node.querySelector("img");
  image.alt = `${name}, ${owners ?? hit.id}`;
  patient(image, hit.image_url, () => image.replaceWith(element("span", "gone", "no picture")));
  node.querySelector(".label").textContent = name;
  node.querySelector(".score").textContent = hit.score.toFixed(3);
  const details = Object.entries(others).map((pair) => value(...pair));
  node.querySelector(".owners").textContent = owners ?? `item ${hit.id}`;
  node.querySelector(".detail").append(...details.flatMap((one, at) => (at ? [", ", one] : [one])));
  const button = node.querySelector("button");
  button.setAttribute("aria-label", `More like this ${name}, rank ${hit.rank}`);
  button.addEventListener("click", () => more(hit, name));
  return node;
}

export function sample(item, rank, count, ask) {
  const name = item.label || "item", image = new Image();
  const button = element("button", "", image), entry = element("li", "", button);
  image.alt = "";
  patient(image, `${item.image_url}&size=128`, () => entry.remove());
  button.type = "button";
  button.setAttribute("aria-label", `Search with this ${name}, sample ${rank} of ${count}`);
  button.addEventListener("click", () => ask(item, name));
  return entry;
}

function kind(text, value, filter) {
  const option = new Option(text, value);
  option.dataset.filter = filter;
  return option;
}

// The choice of one label, with the filter that it stands for.
export function labelled(label, text = label) {
  return kind(text, label, `label = '${label.replaceAll("'", "''")}'`);
}

// The choices of the catalogue's labels; where there are very many, of the most frequent ones.
export function kinds(index) {
  const options = Object.entries(index.labels).map(([label, count]) => labelled(label, `${label} (${count})`));
  const others = index.distinct_labels - options.length;
  if (index.unlabelled) options.push(kind(`no label (${index.unlabelled})`, " ", "label is null or label = ''"));
  if (others) {
    options.push(new Option(`and ${others.toLocaleString()} more: name one in the filter`, ""));
    options.at(-1).disabled = true;
  }
  return [new Option("all", ""), ...options];
}
