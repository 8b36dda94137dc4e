// One small set, drawn on a grid of 16. They stand beside words or have a label on their button.

const PATHS = {
  chat: "M2.5 3h11v8h-6l-3 2.5V11h-2z",
  profile: "M8 8.5a2.750 2.750 0 1 0 0-5.500 2.750 2.750 0 0 0 0 5.500zM2.750 13.500a5.250 5.250 0 0 1 10.500 0",
  pulse: "M1.500 8.500h3l2-5 3 9 2-4h3",
  inspect:
    "M2.500 3.500h11M2.500 7h5M2.500 10.500h4M10.500 6.500a2.750 2.750 0 1 1 0 5.500 2.750 2.750 0 0 1 0-5.500zM12.500 11.500l2 2",
  send: "M3 8h9M8.5 4 12.5 8l-4 4",
  stop: "M4.5 4.5h7v7h-7z",
  plus: "M8 3v10M3 8h10",
  search: "M7 3a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM10 10l3.5 3.5",
  chevron: "m4.5 6 3.5 3.5L11.5 6",
  tool: "M9.5 3.5a3 3 0 0 0 3.6 3.6l-6 6-3.2-3.2 6-6z",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  edit: "M3 13h2.5L13 5.500 10.500 3 3 10.500z",
  again: "M12.500 8A4.500 4.500 0 1 1 11 4.600M11.500 2v3h-3",
  trash: "M3.500 4.500h9M6.500 4.500v-2h3v2M4.500 4.500l.7 9h5.600l.7-9",
  more: "M3.500 8h.01M8 8h.01M12.500 8h.01",
  close: "m4 4 8 8M12 4l-8 8",
  check: "m3.500 8.500 3 3 6-7",
  alert: "M8 2.500 14 13H2zM8 6.500v3M8 11.300v.01",
  help: "M6 6a2 2 0 1 1 2.600 1.900c-.4.2-.6.5-.6 1.100M8 11.500v.01M8 1.750a6.250 6.250 0 1 1 0 12.500 6.250 6.250 0 0 1 0-12.500z",
  list: "M2.500 4h11M2.500 8h11M2.500 12h11",
  down: "M8 3v9M4.500 8.500 8 12l3.500-3.500",
} as const;

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg className="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
