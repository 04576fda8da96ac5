package policy

// Rules are all that decides who may do what, up to how much: what officers approve and auditors read.
type Rules struct {
	Clients []Client `json:"clients,omitempty"`
	// Policies are Cedar documents; a permission is a permit of one of them that no forbid of any takes back.
	Policies []Document `json:"policies,omitempty"`
	// Limits is the document of ceilings and alarms; nil: there are none but those of the policies.
	Limits *Document `json:"limits,omitempty"`
}

// Document is one text that officers approved, exactly as they wrote it.
type Document struct {
	Name string `json:"name"` // [a-z0-9][a-z0-9-]{0,62}
	Text string `json:"text"`
}
