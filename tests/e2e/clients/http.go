// `go run http.go ADDRESS FILE…` prints an answer a line; each form is streamed, in chunks.
package main

import (
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
)

func main() {
	for _, path := range os.Args[2:] {
		reading, writing := io.Pipe()
		form := multipart.NewWriter(writing)
		go func() {
			part, _ := form.CreateFormFile("file", path)
			file, _ := os.Open(path)
			io.Copy(part, file)
			form.Close()
			writing.Close()
		}()
		answer, err := http.Post(os.Args[1]+"/predict", form.FormDataContentType(), reading)
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(answer.Body)
		fmt.Println(string(body))
	}
}
