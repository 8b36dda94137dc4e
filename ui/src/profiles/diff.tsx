// What changes, by field: drawn as the server told it.

import type { Difference } from "./queries";

const WORDS = { added: "added", removed: "removed", changed: "changed", moved: "moved" };

export function Diff({ changes }: { changes: Difference[] }) {
  if (changes.length === 0) return <p className="hint">Nothing differs.</p>;
  return (
    <ul className="diff">
      {changes.map((change) => (
        <li key={change.path + change.kind} data-kind={change.kind}>
          <p>
            <code>{change.path}</code> <span className="diff-kind">{WORDS[change.kind]}</span>
          </p>
          {change.lines && change.lines.length > 0 ? (
            <pre>
              {change.lines.map((line, at) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: lines of a difference do not move
                <span key={at} className="diff-line" data-sign={line.sign}>
                  {line.sign}{" "}
                  {line.parts.map((part, index) =>
                    // biome-ignore lint/suspicious/noArrayIndexKey: nor do parts of a line
                    part.changed ? <mark key={index}>{part.text}</mark> : <span key={index}>{part.text}</span>,
                  )}
                  {"\n"}
                </span>
              ))}
            </pre>
          ) : (
            <pre>
              {change.before !== undefined && (
                <span className="diff-line" data-sign="-">
                  - {shown(change.before)}
                  {"\n"}
                </span>
              )}
              {change.after !== undefined && (
                <span className="diff-line" data-sign="+">
                  + {shown(change.after)}
                </span>
              )}
            </pre>
          )}
        </li>
      ))}
    </ul>
  );
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
