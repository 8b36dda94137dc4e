// Who may change what.

import type { Policy } from "./draft";
import { ListField } from "./fields";

interface Props {
  value: Policy;
  onChange: (value: Policy) => void;
}

export function PolicySection({ value, onChange }: Props) {
  return (
    <>
      <label className="check">
        <input
          type="checkbox"
          checked={value.allow_overrides}
          onChange={(event) => onChange({ ...value, allow_overrides: event.target.checked })}
        />
        Requests may override parts of the runtime
      </label>
      {value.allow_overrides && (
        <>
          <ListField
            label="Only these overrides"
            hint="Empty means all: system_prompt, middlewares, tools."
            pointer="/policy/allowed_override_keys"
            value={value.allowed_override_keys}
            onChange={(keys) => onChange({ ...value, allowed_override_keys: keys })}
          />
          <ListField
            label="Never these"
            pointer="/policy/denied_override_keys"
            value={value.denied_override_keys}
            onChange={(keys) => onChange({ ...value, denied_override_keys: keys })}
          />
        </>
      )}
      <label className="check">
        <input
          type="checkbox"
          checked={value.read_only}
          onChange={(event) => onChange({ ...value, read_only: event.target.checked })}
        />
        Read-only once saved; an operator can unlock it
      </label>
    </>
  );
}
