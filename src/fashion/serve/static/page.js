// The page: pictures or an item go in, a grid of hits comes out; what was asked is in the address and in the history.
import { described, prepared, search, similar } from "./api.js";
import { card, kinds, labelled, naming, sample } from "./cards.js";

const $ = (id) => document.getElementById(id);
const TITLE = document.title;
const NARROW = matchMedia("(max-width: 760px)"); // where the results lie below the form
const uploads = new Map(); // name in the history → pictures: files are in no address

let asked = null; // {item, image_url, name} or {upload, address, name}
let running = null; // {question, stop} of the request under way
let turn = 0; // of files that are read: the last ones given are what is asked
let version = null; // of the catalogue that the page describes
let rare = false; // whether it has labels that are no choice

function say(text, kind = "") {
  $("status").textContent = text;
  $("status").className = kind;
}

function how() {
  const chosen = $("label").selectedOptions[0].dataset.filter, typed = $("filter").value.trim();
  const filter = [chosen, typed].filter(Boolean).map((part) => `(${part})`).join(" and ");
  const values = { k: $("k").value, fold_duplicates: $("fold").checked };
  if ($("product").checked) values.group_by = "product_id";
  return filter ? { ...values, filter } : values;
}

// fresh: whether it is a new question; who refines one goes on choosing, and must not lose the place.
async function ask(fresh) {
  const wanted = how(), question = JSON.stringify([asked.item, asked.upload, wanted]);
  if (running?.question === question) return; // Enter in the filter's field is a change and a submission
  running?.stop.abort();
  const mine = running = { question, stop: new AbortController() };
  $("results").setAttribute("aria-busy", "true");
  say("Searching…");
  try {
    const { signal } = mine.stop;
    const answer = asked.upload === undefined
      ? await similar(asked.item, wanted, signal) : await search(uploads.get(asked.upload), wanted, signal);
    if (mine === running) show(answer, wanted.filter);
  } catch (error) {
    if (mine === running) fail(error);
  } finally {
    if (mine === running) {
      running = null;
      $("results").removeAttribute("aria-busy");
      if (fresh && NARROW.matches) $("results").scrollIntoView();
    }
  }
}

// The hits that are shown from now on; the focus in those that go would be lost with them.
function fill(...cards) {
  if ($("hits").contains(document.activeElement)) $("results").focus({ preventScroll: true });
  $("hits").replaceChildren(...cards);
}

function fail(error) {
  if (error.code !== "no_such_item") fill(); // else what was found stands, all but that one
  $("named").hidden = true;
  document.title = TITLE;
  say(error.code === "no_such_item" ? "This item is no longer in the catalogue." : error.message, "bad");
}

function show(answer, filter) {
  $("named").hidden = !answer.predicted;
  if (answer.predicted) $("named").replaceChildren(...naming(answer.predicted));
  document.title = `${asked.upload === undefined ? asked.name : answer.predicted.label} – ${TITLE}`;
  fill(...answer.hits.map((hit) => card($("hit"), hit, askItem)));
  $("hits").classList.toggle("weak", answer.match === false);
  const count = `${answer.hits.length} ${answer.hits.length === 1 ? "item" : "items"}`;
  const where = filter ? "nothing that passes the filter" : "nothing in the catalogue";
  if (!answer.hits.length) say(filter ? "Nothing matches: no item passes the filter." : "Nothing matches.", "doubt");
  else if (answer.match === false) say(`No match: ${where} is near enough. The nearest ${count}:`, "doubt");
  else say(`${count} in ${answer.processing_time_ms.toFixed(0)} ms, most alike first.`);
  if (answer.catalog_version !== version) describe().catch(() => {}); // what was found stands all the same
}

// A new question: what it was is put into the history, and what is shown of the last one goes.
function begin(question) {
  turn++; // files that are still being read were given before
  asked = question;
  history.pushState(asked, "", address());
  showQuery();
  ask(true);
}

async function askFiles(files) {
  const pictures = [...files].filter((file) => !file.type || file.type.startsWith("image/"));
  if (!files.length) return;
  if (!pictures.length) { say(`${files[0].name} is not a picture; give a JPEG, PNG or WebP.`, "bad"); return; }
  const mine = ++turn;
  $("results").setAttribute("aria-busy", "true");
  try {
    const contents = await Promise.all(pictures.map(prepared));
    if (mine !== turn) return;
    const upload = `${performance.timeOrigin} ${uploads.size}`, others = pictures.length - 1;
    uploads.set(upload, contents);
    const name = others ? `Your picture, and ${others} more of the same garment` : "Your picture";
    begin({ upload, address: URL.createObjectURL(contents[0]), name });
  } catch (error) {
    if (mine !== turn) return;
    if (!running) $("results").removeAttribute("aria-busy");
    say(error.message, "bad");
  }
}

function askItem(item, name) {
  begin({ item: item.id, address: item.image_url, name });
  $("results").focus({ preventScroll: true });
  if (!NARROW.matches) window.scrollTo({ top: 0 });
}

function showQuery() {
  const image = $("query");
  $("named").hidden = true;
  image.onerror = () => { image.hidden = true; $("hint").hidden = false; $("another").hidden = true; };
  image.hidden = $("another").hidden = !asked;
  $("hint").hidden = Boolean(asked);
  if (!asked) return;
  image.src = asked.address;
  image.alt = asked.name;
  $("another").textContent = `${asked.name}. Drop, paste or pick another.`;
}

// The address of what is asked: an item and how, so that it can be sent to others.
function address() {
  const values = new URLSearchParams();
  if (asked?.item !== undefined) values.set("item", asked.item);
  if ($("label").value) values.set("label", $("label").value);
  if ($("filter").value.trim()) values.set("filter", $("filter").value.trim());
  if (!$("k").selectedOptions[0].defaultSelected) values.set("k", $("k").value);
  for (const id of ["fold", "product"]) if ($(id).checked) values.set(id, "1");
  return values.size ? `?${values}` : location.pathname;
}

// Whether the label is one of the choices; a rare one, which the address names, becomes one.
function offer(label) {
  const among = [...$("label").options].some((one) => one.value === label);
  if (among || !rare || !label?.trim()) return among;
  $("label").append(labelled(label));
  return true;
}

// What the address says is asked, and what the history keeps of it.
function restore(state) {
  turn++;
  const values = new URLSearchParams(location.search), item = values.get("item");
  offer(values.get("label"));
  for (const id of ["label", "k"]) {
    const options = [...$(id).options];
    (options.find((one) => one.value === values.get(id)) ?? options.find((one) => one.defaultSelected) ?? options[0]).selected = true;
  }
  $("filter").value = values.get("filter") ?? "";
  $("more").open ||= Boolean($("filter").value);
  for (const id of ["fold", "product"]) $(id).checked = values.has(id) && !$(id).parentElement.hidden;
  asked = item === null ? null : { item, address: `v1/images/${encodeURIComponent(item)}`, name: `Item ${item}` };
  if (state?.item !== undefined || uploads.has(state?.upload)) asked = state;
  showQuery();
  history.replaceState(asked, "", address()); // without choices that are gone
  if (asked) { ask(true); return; }
  running?.stop.abort();
  running = null;
  $("results").removeAttribute("aria-busy");
  document.title = TITLE;
  fill();
  say("The most alike garments will be shown here.");
}

function refine(event) {
  event.preventDefault();
  history.replaceState(asked, "", address());
  if (asked) ask(false);
  else if (event.type === "submit") say("Choose a picture first.", "doubt");
}

function listen() {
  const drop = $("drop");
  $("file").addEventListener("change", async (event) => { await askFiles(event.target.files); event.target.value = ""; });
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
  for (const id of ["label", "k", "fold", "product", "filter"]) $(id).addEventListener("change", refine);
  $("how").addEventListener("submit", refine);
  // By its own address the browser would take it for another entry of the history.
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("results").focus(); });
  window.addEventListener("popstate", (event) => restore(event.state));
}

async function describe() {
  const index = await described(), chosen = $("label").value;
  version = index.version;
  $("catalog").textContent = `${index.items.toLocaleString()} items to search`;
  $("version").textContent = `· catalogue version ${index.version}, model ${index.model}`;
  $("columns").textContent = `Columns: ${index.columns.filter((name) => name !== "id").join(", ")}`;
  $("filter").placeholder = `label = '${Object.keys(index.labels)[0] ?? "dress"}'`;
  $("label").replaceChildren(...kinds(index));
  rare = index.distinct_labels > Object.keys(index.labels).length;
  if (offer(chosen)) $("label").value = chosen;
  const lost = chosen && !$("label").value;
  $("product").parentElement.hidden = !index.products;
  $("product").checked &&= index.products;
  for (const option of [...$("k").options]) if (option.value > index.max_k && $("k").length > 1) option.remove();
  if ($("k").value > index.max_k) $("k").replaceChildren(new Option(index.max_k));
  $("samples").hidden = !index.samples.length;
  const samples = index.samples.map((item, at) => sample(item, at + 1, index.samples.length, askItem));
  const focused = [...$("sample-list").children].findIndex((one) => one.contains(document.activeElement));
  $("sample-list").replaceChildren(...samples);
  if (focused >= 0) (samples[focused]?.firstChild ?? $("file")).focus({ preventScroll: true });
  if (!lost || !asked) return;
  history.replaceState(asked, "", address());
  ask(false); // what is shown was asked with the label that is gone
}

listen();
try {
  await describe();
  restore(history.state);
} catch (error) {
  $("catalog").textContent = "";
  say(error.message, "bad");
}
