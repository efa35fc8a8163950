/** Opens the page with the data that is in it. */

import { byId } from "./elements.js";
import { fitFrame } from "./frame.js";
import { Page } from "./page.js";

const data = /** @type {Content} */ (JSON.parse(byId("data").textContent ?? ""));
byId("page").hidden = false;
new Page(data);
fitFrame();
