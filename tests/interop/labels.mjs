// What transformers.js makes of a bundle: node labels.mjs BUNDLE, texts as a JSON list in; a score per label and text out.
import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { env, pipeline } from "@huggingface/transformers";

const bundle = process.argv[2];
env.allowRemoteModels = false;
env.localModelPath = dirname(bundle);
const classify = await pipeline("text-classification", basename(bundle), { dtype: "fp32", subfolder: "" });
const answers = [];
for (const text of JSON.parse(readFileSync(0, "utf8"))) {
  const scores = await classify(text, { top_k: null });
  answers.push(Object.fromEntries(scores.map(({ label, score }) => [label, score])));
}
console.log(JSON.stringify(answers));
