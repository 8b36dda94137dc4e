// Which tools a profile offers: all, none, or some; with what each takes.

import { Complaints, useProblems } from "./fields";
import type { ToolSchema } from "./queries";

interface Props {
  known: ToolSchema[];
  value: string[] | null;
  changed: boolean;
  onChange: (value: string[] | null) => void;
}

export function ToolSection({ known, value, changed, onChange }: Props) {
  const problems = useProblems("/runtime/tools");
  const strangers = (value ?? []).filter((name) => !known.some((tool) => tool.name === name));
  const toggle = (name: string, on: boolean) =>
    onChange(on ? [...(value ?? []), name] : (value ?? []).filter((other) => other !== name));
  return (
    <div data-changed={changed} className="tool-section">
      <label className="check">
        <input type="radio" name="tools" checked={value === null} onChange={() => onChange(null)} />
        All tools of this server
      </label>
      <label className="check">
        <input type="radio" name="tools" checked={value !== null} onChange={() => onChange(value ?? [])} />
        Only these
      </label>
      {value !== null && (
        <ul className="tool-list">
          {known.map((tool) => (
            <li key={tool.name}>
              <label className="check">
                <input
                  type="checkbox"
                  checked={value.includes(tool.name)}
                  onChange={(event) => toggle(tool.name, event.target.checked)}
                />
                {tool.name}
              </label>
              <p className="hint">{tool.description}</p>
              <details>
                <summary>What it takes</summary>
                <pre>{JSON.stringify(tool.schema, null, 2)}</pre>
              </details>
            </li>
          ))}
          {strangers.map((name) => (
            <li key={name}>
              <label className="check">
                <input type="checkbox" checked onChange={() => toggle(name, false)} />
                {name}
              </label>
            </li>
          ))}
        </ul>
      )}
      <Complaints problems={problems} />
    </div>
  );
}
