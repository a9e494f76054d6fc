// `java Http.java ADDRESS FILE…` prints an answer a line; each request offers to upgrade to h2c.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;

public class Http {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        URI uri = URI.create(arguments[0] + "/predict");
        for (int i = 1; i < arguments.length; i++) {
            HttpRequest request = HttpRequest.newBuilder(uri)
                .header("Content-Type", "image/png")
                .POST(BodyPublishers.ofFile(Path.of(arguments[i])))
                .build();
            System.out.println(client.send(request, BodyHandlers.ofString()).body());
        }
    }
}
