import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createRootRoute, createRoute, createRouter, RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { BASE, Refusal } from "./api";
import { ChatPage } from "./chat/page";
import { Shell } from "./shell";
import "./style/base.css";
import "./style/chat.css";

const root = createRootRoute({ component: Shell });
const chat = createRoute({ getParentRoute: () => root, path: "/", component: ChatPage });
const conversation = createRoute({ getParentRoute: () => root, path: "/c/$convId", component: ChatPage });
const router = createRouter({ routeTree: root.addChildren([chat, conversation]), basepath: BASE });

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      // What was refused stays refused; what was not answered may be answered the next time.
      retry: (count, error) => count < 2 && error instanceof Refusal && (error.status === 0 || error.status >= 500),
      staleTime: 5_000,
    },
  },
});

const element = document.getElementById("root");
if (element) {
  createRoot(element).render(
    <StrictMode>
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}
