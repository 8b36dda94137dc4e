import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Addresses of files are relative to <base>, which the server fills in, so that one build works below any prefix.
export default defineConfig({
  base: "./",
  plugins: [react()],
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 600 },
  server: {
    proxy: {
      "/api": "http://127.0.0.1:8080",
      "/chat": "http://127.0.0.1:8080",
      "/metrics": "http://127.0.0.1:8080",
      "/readyz": "http://127.0.0.1:8080",
      "/ws": { target: "ws://127.0.0.1:8080", ws: true },
    },
  },
});
