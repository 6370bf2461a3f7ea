// What the page asks of the server; addresses are relative, since a proxy may show it below a path.
// Pictures are made small here: the server looks at 64×64 of them.
const LARGEST = 1600;
const KNOWN = ["image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif"]; // sent as they are, if small

async function fetchJson(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer; is it still running?");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  const refusal = new Error(body?.error?.message ?? `The server's answer (${response.status}) cannot be read; try again.`);
  refusal.code = body?.error?.code;
  throw refusal;
}

async function decoded(content) {
  try {
    return await createImageBitmap(content, { imageOrientation: "from-image" });
  } catch {
    const image = new Image(); // it knows drawings (SVG) too
    image.src = URL.createObjectURL(content);
    await image.decode().finally(() => URL.revokeObjectURL(image.src));
    return image;
  }
}

// The file's content as it is sent, read once: the file may be gone when the next filter asks for it.
export async function prepared(file) {
  let content;
  try {
    content = new Blob([await file.arrayBuffer()], { type: file.type });
  } catch {
    throw new Error(`${file.name} cannot be read any more; pick it again.`);
  }
  let picture;
  try {
    picture = await decoded(content);
    const scale = Math.min(1, LARGEST / Math.max(picture.width, picture.height));
    if (scale === 1 && KNOWN.includes(file.type)) return content;
    const canvas = new OffscreenCanvas(Math.round(picture.width * scale), Math.round(picture.height * scale));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // JPEG knows no transparency, and the server lays it on white
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  } catch {
    return content; // not a picture that the browser knows: the server says what is wrong with it
  } finally {
    picture?.close?.(); // a bitmap is kept until it is told so: 48 MB of a phone's photo
  }
}

// how: {k, fold_duplicates, group_by, filter}
export function similar(number, how, signal) {
  return fetchJson(`v1/items/${encodeURIComponent(number)}/similar?${new URLSearchParams(how)}`, { signal });
}

// Several pictures show one item.
export function search(pictures, how, signal) {
  const form = new FormData();
  for (const picture of pictures) form.append("file", picture, "query");
  for (const [name, value] of Object.entries(how)) form.set(name, value);
  return fetchJson("v1/search", { method: "POST", body: form, signal });
}

export function described() {
  return fetchJson("v1/index");
}
