// What `/metrics` counts, as far as the page shows it. Pure.

export type Metrics = ReadonlyMap<string, number>;

/** Series by name with labels, as they stand in the text. */
export function parsed(text: string): Metrics {
  const series = new Map<string, number>();
  for (const line of text.split("\n")) {
    if (line.startsWith("#") || line.trim() === "") continue;
    const at = line.lastIndexOf(" ");
    series.set(line.slice(0, at), Number(line.slice(at + 1)));
  }
  return series;
}

/** The sum of all series of a name whose labels contain a text. */
export function sum(metrics: Metrics, name: string, label = ""): number {
  let total = 0;
  for (const [key, value] of metrics) {
    if ((key === name || key.startsWith(`${name}{`)) && key.includes(label)) total += value;
  }
  return total;
}
