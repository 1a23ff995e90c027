"""JSON shapes of the API that the HTTP face itself reads and builds."""
