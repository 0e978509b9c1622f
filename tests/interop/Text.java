// The file that takes text, in ONNX Runtime for Java: java -cp onnxruntime.jar Text.java FILE < texts, each ended by a
// NUL, in UTF-8. For each a line: its labels, with tabs between.
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;

public class Text {
  public static void main(String[] arguments) throws Exception {
    var input = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
    var output = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    var environment = OrtEnvironment.getEnvironment();
    try (var session = environment.createSession(arguments[0])) {
      for (int start = 0, end; (end = input.indexOf('\0', start)) >= 0; start = end + 1) {
        try (var text = OnnxTensor.createTensor(environment, new String[] {input.substring(start, end)});
            var answer = session.run(Map.of("text", text))) {
          output.println(String.join("\t", (String[]) answer.get("labels").orElseThrow().getValue()));
        }
      }
    }
    output.flush();
  }
}
