// A command line, ready to be taken.

import { useCopy } from "../copy";
import { Icon } from "../icons";

export function Command({ text }: { text: string }) {
  const { copied, copy } = useCopy();
  return (
    <div className="code">
      <button type="button" className="quiet code-copy" aria-label="Copy the command" onClick={() => void copy(text)}>
        <Icon name={copied ? "check" : "copy"} />
        {copied ? "Copied" : "Copy"}
      </button>
      <pre>{text}</pre>
    </div>
  );
}
