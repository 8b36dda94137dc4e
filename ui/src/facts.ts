// What the server tells the page about itself, in `<html data-...>`.

const { dataset } = document.documentElement;

/** The debug API answers, to operators. */
export const DEBUG_API = dataset.debugApi !== undefined;
/** The offline demo model answers. */
export const DEMO = dataset.demo !== undefined;
