// What was changed here and elsewhere, each in another way: one decides field by field.

import type { Draft } from "./draft";

const FIELD_NAMES: Record<keyof Draft, string> = {
  display_name: "Name",
  description: "Description",
  tags: "Tags",
  system_prompt: "System prompt",
  middlewares: "Middlewares",
  tools: "Tools",
  step_settings_patch: "Provider settings",
  policy: "Policy",
  extensions: "Extensions",
};

export function Conflicts(props: {
  conflicts: (keyof Draft)[];
  theirs: Draft;
  onTheirs: (field: keyof Draft) => void;
  onDone: (left: (keyof Draft)[]) => void;
}) {
  const done = (field: keyof Draft) => props.onDone(props.conflicts.filter((other) => other !== field));
  return (
    <section className="conflicts" aria-label="Changed on both sides">
      <h2>Changed on both sides</h2>
      {props.conflicts.map((field) => (
        <div key={field} className="conflict">
          <span>{FIELD_NAMES[field]}</span>
          <button type="button" className="button" onClick={() => done(field)}>
            Keep mine
          </button>
          <button
            type="button"
            className="button"
            onClick={() => {
              props.onTheirs(field);
              done(field);
            }}
          >
            Take theirs
          </button>
          <pre>
            {typeof props.theirs[field] === "string"
              ? String(props.theirs[field])
              : JSON.stringify(props.theirs[field], null, 2)}
          </pre>
        </div>
      ))}
    </section>
  );
}
