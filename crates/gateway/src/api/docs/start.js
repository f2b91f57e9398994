// A file of its own, because the page's policy allows no script within it.
SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  // Else a page with a public address asks a server on the Internet about its document.
  validatorUrl: null,
});
