// The page: a picture or an item goes in, a grid of hits comes out.  All text is set as text, never as HTML.
const $ = (id) => document.getElementById(id);
const LARGEST = 1600; // pictures are shrunk before they are sent: the server looks at 64×64 of them
let asked = null; // what was asked last: {file} or {item, label}
let turn = 0; // answers to older questions are dropped

async function fetchJson(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer; is it still running?");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? `The server answered ${response.status}.`);
  return body;
}

function say(text, kind = "") {
  $("status").textContent = text;
  $("status").className = kind;
}

function filterText() {
  const parts = [];
  if ($("label").value) parts.push(`label = '${$("label").value.replaceAll("'", "''")}'`);
  if ($("filter").value.trim()) parts.push(`(${$("filter").value.trim()})`);
  return parts.join(" and ");
}

async function shrunk(file) {
  try {
    const picture = await createImageBitmap(file, { imageOrientation: "from-image" });
    const scale = LARGEST / Math.max(picture.width, picture.height);
    if (scale >= 1) return file;
    const canvas = new OffscreenCanvas(Math.round(picture.width * scale), Math.round(picture.height * scale));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // JPEG knows no transparency, and the server lays it on white
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  } catch {
    return file; // not a picture that the browser knows: the server says what is wrong with it
  }
}

async function request() {
  const k = $("k").value, filter = filterText(), fold = $("fold").checked;
  if (asked.item !== undefined) {
    const values = new URLSearchParams({ k, fold_duplicates: fold });
    if (filter) values.set("filter", filter);
    return fetchJson(`/v1/items/${asked.item}/similar?${values}`);
  }
  const form = new FormData();
  form.set("file", await shrunk(asked.file), "query");
  form.set("k", k);
  form.set("fold_duplicates", fold);
  if (filter) form.set("filter", filter);
  return fetchJson("/v1/search", { method: "POST", body: form });
}

async function search() {
  if (!asked) return;
  const mine = ++turn;
  $("hits").classList.add("busy");
  say("Searching…");
  try {
    const answer = await request();
    if (mine === turn) show(answer);
  } catch (error) {
    if (mine !== turn) return;
    $("hits").replaceChildren();
    $("named").hidden = true;
    say(error.message, "bad");
  } finally {
    if (mine === turn) $("hits").classList.remove("busy");
  }
}

function show(answer) {
  showName(answer.predicted);
  $("hits").replaceChildren(...answer.hits.map(card));
  $("hits").classList.toggle("weak", answer.match === false);
  const count = `${answer.hits.length} ${answer.hits.length === 1 ? "item" : "items"}`;
  if (!answer.hits.length) say(filterText() ? "Nothing matches: no item passes the filter." : "Nothing matches.", "doubt");
  else if (answer.match === false) say(`No match: nothing in the catalogue is near enough. The nearest ${count}:`, "doubt");
  else say(`${count} in ${answer.processing_time_ms.toFixed(0)} ms, most alike first.`);
}

function showName(predicted) {
  $("named").hidden = !predicted;
  if (!predicted) return;
  const percent = `${Math.round(predicted.probability * 100)}%`;
  const bar = document.createElement("span"), fill = document.createElement("span");
  bar.className = "bar";
  fill.style.width = percent;
  bar.append(fill);
  $("named").replaceChildren(`Looks like: ${predicted.label} (${percent})`, bar);
}

function card(hit) {
  const node = $("hit").content.cloneNode(true);
  const name = hit.label ?? "item";
  const image = node.querySelector("img");
  image.src = hit.image_url;
  image.alt = `${name}, ${hit.payload.external_id ?? hit.id}`;
  node.querySelector(".label").textContent = name;
  node.querySelector(".score").textContent = hit.score.toFixed(3);
  const details = Object.entries(hit.payload).filter(([key]) => !["external_id", "split"].includes(key));
  node.querySelector(".detail").textContent = details.map(([key, value]) => `${key}: ${value}`).join(", ");
  const button = node.querySelector("button");
  button.setAttribute("aria-label", `More like this ${name}, rank ${hit.rank}`);
  button.addEventListener("click", () => askItem(hit.id, `${name}, item ${hit.id}`));
  return node;
}

function askFiles(files) {
  if (!files.length) return;
  const file = [...files].find((one) => one.type.startsWith("image/")) ?? files[0];
  if (file.type && !file.type.startsWith("image/")) say(`${file.name} is not a picture; give a JPEG, PNG or WebP.`, "bad");
  else askFile(file); // of a type that the browser does not know the server says what is wrong
}

function askFile(file) {
  asked = { file };
  const image = $("query");
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  showQuery(URL.createObjectURL(file), "Your picture");
  search();
}

function askItem(number, name) {
  asked = { item: number };
  showQuery(`/v1/images/${number}`, name);
  search();
  $("results").focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
}

function showQuery(address, name) {
  const image = $("query");
  image.onerror = () => { image.hidden = true; $("hint").hidden = false; };
  image.src = address;
  image.alt = name;
  image.hidden = false;
  $("hint").hidden = true;
}

function listen() {
  const drop = $("drop");
  $("file").addEventListener("change", (event) => { askFiles(event.target.files); event.target.value = ""; });
  // On the whole page: a picture that misses the box must not make the browser leave for it.
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return; // text goes into the filter's field as ever
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    askFiles(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => askFiles(event.clipboardData.files));
  for (const id of ["label", "k", "fold", "filter"]) $(id).addEventListener("change", search);
  $("how").addEventListener("submit", (event) => { event.preventDefault(); search(); });
}

async function start() {
  listen();
  try {
    const index = await fetchJson("/v1/index");
    $("catalog").textContent = `${index.items.toLocaleString()} items to search`;
    $("version").textContent = `· catalogue version ${index.version}, model ${index.model}`;
    $("columns").textContent = `Columns: ${index.columns.join(", ")}`;
    for (const [label, count] of Object.entries(index.labels)) $("label").add(new Option(`${label} (${count})`, label));
    $("samples").hidden = !index.samples.length;
    for (const number of index.samples) {
      const item = document.createElement("li"), button = document.createElement("button"), image = new Image();
      image.src = `/v1/images/${number}?size=128`;
      image.alt = "";
      button.type = "button";
      button.setAttribute("aria-label", `Search with item ${number}`);
      button.append(image);
      button.addEventListener("click", () => askItem(number, `Item ${number}`));
      item.append(button);
      $("sample-list").append(item);
    }
  } catch (error) {
    $("catalog").textContent = "";
    say(error.message, "bad");
  }
}

start();
