// Which files were dropped or chosen: folders are walked, hidden files left out, in the order of their names.
// What the browser cannot read is {name, reason} instead of {name, file}.

const hidden = (path) => path.split("/").some((part) => part.startsWith("."));

/** Return [{name, file}] of a chosen list of files. */
export function chosen(list) {
  return sorted([...list].map((file) => ({ name: file.webkitRelativePath || file.name, file })));
}

/** Return [{name, file}] of a drop, whose entries must be asked for before the first wait. */
export async function dropped(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.());
  if (!entries.length || entries.some((entry) => !entry)) return chosen(transfer.files);
  return sorted((await Promise.all(entries.map(below))).flat());
}

/** Return the files, and those that cannot be read: vanished since, or closed to whoever runs the browser. */
export async function looked(files) {
  const all = await Promise.all(files.map(async (each) => {
    try {
      await each.file?.slice(0, 1).arrayBuffer();
      return each;
    } catch (error) {
      return unreadable(each.name, error);
    }
  }));
  return [all.filter(({ file }) => file), all.filter(({ file }) => !file)];
}

const unreadable = (name, error) => ({ name, reason: `cannot be read: ${error.message}` });

async function below(entry) {
  const name = entry.fullPath.replace(/^\//, "");
  try {
    return await inside(entry, name);
  } catch (error) {
    return [unreadable(name, error)];
  }
}

async function inside(entry, name) {
  if (entry.isFile) return [{ name, file: await new Promise((found, failed) => entry.file(found, failed)) }];
  const reader = entry.createReader();
  const found = [];
  for (;;) { // a browser gives a hundred at a time
    const some = await new Promise((given, failed) => reader.readEntries(given, failed));
    if (!some.length) return (await Promise.all(found.map(below))).flat();
    found.push(...some);
  }
}

function sorted(found) {
  return found
    .filter(({ name }) => !(name.includes("/") && hidden(name)))
    .sort((a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)));
}
