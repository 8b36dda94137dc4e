// Where Markdown can be cut so that the parts mean what the whole means.

const FENCE = /^ {0,3}(`{3,}|~{3,})/;

/** Parts of a text; all but the last stay as they are when the text grows. */
export function blocksOf(text: string): string[] {
  const blocks: string[] = [];
  let start = 0;
  let fence: string | null = null;
  let at = 0;
  // What refers to other places of the text must stay together with them.
  const whole = /^ {0,3}\[[^\]]+\]:/m.test(text);
  while (at < text.length) {
    const end = text.indexOf("\n", at);
    const next = end < 0 ? text.length : end + 1;
    const line = text.slice(at, end < 0 ? undefined : end);
    const mark = line.match(FENCE)?.[1];
    if (fence) {
      if (mark?.startsWith(fence) && line.trim() === mark) fence = null;
    } else if (mark) {
      fence = mark;
    } else if (!whole && line.trim() === "" && end >= 0 && startsAnew(text, next)) {
      blocks.push(text.slice(start, next));
      start = next;
    }
    at = next;
  }
  if (start < text.length) blocks.push(text.slice(start));
  return blocks;
}

/** Whether the line after a blank one cannot belong to what was before: no list, no indent, no quote, and complete enough to tell. */
function startsAnew(text: string, at: number): boolean {
  const line = text.slice(at, at + 12);
  return /^[^\s>*+\-|<\d`~]/.test(line) || /^(```|~~~)/.test(line) || /^\*\*/.test(line);
}
