// The file that takes text, in ONNX Runtime for Node: node text.mjs FILE, texts as a JSON list in; labels per text out.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";

const session = await ort.InferenceSession.create(process.argv[2]);
const answers = [];
for (const text of JSON.parse(readFileSync(0, "utf8"))) {
  const { labels } = await session.run({ text: new ort.Tensor("string", [text], [1]) });
  answers.push([...labels.data]);
}
console.log(JSON.stringify(answers));
