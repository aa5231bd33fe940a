// The answers so far: which belong together, in which order, and what they say together. No document in here.

export const ALONE = ""; // the series of pictures that stand alone

/** Return [{key, title, patient, slices}] in the order of arrival, the slices of each along its stack. */
export function groups(slices) {
  const found = new Map();
  for (const slice of slices) {
    const { series, title, patient } = slice.place;
    if (!found.has(series)) found.set(series, { key: series, title, patient, slices: [] });
    found.get(series).slices.push(slice);
  }
  for (const { key, slices: members } of found.values()) if (key !== ALONE) members.sort(along);
  return [...found.values()].map((group, place) => ({ ...group, title: titled(group, place) }));
}

const along = (a, b) => a.place.position - b.place.position || (a.frame ?? 0) - (b.frame ?? 0) || a.id - b.id;

function titled({ key, title, slices }, place) {
  if (key === ALONE) return counted(slices.length, "image");
  return `${title || slices[0].path.split("/").at(-1) || `Series ${place + 1}`} (${counted(slices.length, "slice")})`;
}

export const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** Return the mean probability of each class over the slices that have something in them; null without any. */
export function mean(slices) {
  const full = slices.filter((slice) => !slice.empty);
  if (!full.length) return null;
  const sums = full.reduce((sum, slice) => sum.map((each, at) => each + slice.probabilities[at]),
    full[0].probabilities.map(() => 0));
  return { probabilities: sums.map((sum) => sum / full.length), count: full.length,
    unlike: full.filter((slice) => slice.unlike).length };
}

/** Return those of several groups that are of one patient: [{patient, slices, series}]. */
export function patients(found) {
  const by = new Map();
  for (const { patient, slices } of found.filter((group) => group.patient)) {
    const known = by.get(patient) ?? { slices: [], series: 0 };
    by.set(patient, { slices: [...known.slices, ...slices], series: known.series + 1 });
  }
  return [...by.values()].filter(({ series }) => series > 1);
}

/** Return the table of all answers, as `brainmri predict --csv` prints it. */
export const csv = (heading, slices) => heading + slices.map((slice) => slice.row).join("");

export const percent = (share) => `${(100 * share).toFixed(1)} %`;
