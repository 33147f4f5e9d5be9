// The plugin's entry. The import is OpenClaw's own: its loader resolves it. All else is in guard.js, which needs none.
import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";
import { DESCRIPTION, ID, NAME, register } from "./guard.js";

export default definePluginEntry({ id: ID, name: NAME, description: DESCRIPTION, register });
