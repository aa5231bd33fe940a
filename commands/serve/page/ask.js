// Questions to the server, which is the one that the page came from.

const TOGETHER = 64e6; // bytes in a request, where files are small enough to share one

/** Return files in groups that each fit into a request. */
export function requests(files, limits) {
  const found = [];
  let room = 0;
  for (const each of files) {
    if (!found.length || found.at(-1).length === limits.files || each.file.size > room) {
      found.push([]);
      room = TOGETHER;
    }
    found.at(-1).push(each);
    room -= each.file.size;
  }
  return found;
}

/** Yield the answers to some files, one object a picture or unreadable file. */
export async function* ask(files, signal) {
  const form = new FormData();
  form.append("names", JSON.stringify(files.map(({ name }) => name)));
  for (const { file } of files) form.append("file", file, "file");
  const response = await fetch("/ask", { method: "POST", body: form, signal });
  await refuse(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (text + (value ?? "")).split("\n");
    text = lines.pop();
    for (const line of lines) yield JSON.parse(line);
    if (done) return;
  }
}

/** Return a picture of where the network looked for a class, given what it saw. */
export async function heat(seen, name, signal) {
  const body = Uint8Array.from(atob(seen), (each) => each.charCodeAt(0));
  const response = await fetch(`/heat?class=${encodeURIComponent(name)}`, { method: "POST", body, signal });
  await refuse(response);
  return response.blob();
}

/** Return what the study is. */
export async function study() {
  const response = await fetch("/study");
  await refuse(response);
  return response.json();
}

/** Return a test image of the study. */
export async function example(number) {
  const response = await fetch(`/example?number=${number}`);
  await refuse(response);
  return { name: JSON.parse(response.headers.get("X-Name")), file: await response.blob() };
}

async function refuse(response) {
  if (!response.ok) throw new Error((await response.text()).trim() || `the server says ${response.status}`);
}
