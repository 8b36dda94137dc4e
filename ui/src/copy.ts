// Taking a text along, and saying for a moment that it was taken.

import { useState } from "react";

/** How long it is said, in milliseconds. */
const SAID = 1_500;

export function useCopy(): { copied: boolean; copy: (text: string) => Promise<void> } {
  const [copied, setCopied] = useState(false);
  const copy = async (text: string) => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), SAID);
  };
  return { copied, copy };
}
