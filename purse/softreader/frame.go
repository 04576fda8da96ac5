package softreader

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// Sizes of a frame: header, ciphertext, MAC.
const (
	headerLen = 9
	macLen    = 8
	mostData  = 16384
)

// Directions.
const (
	fromHost = 1
	toHost   = 2
)

// Seal makes the next frame to the host of 1 to 16,384 bytes.
//
//	01 02 flags(1) sequence(4) length(2) | ciphertext | MAC(8)
func (m *Module) Seal(data []byte, last bool) ([]byte, error) {
	switch {
	case !m.open || m.sentEnd || m.sent == 1<<32-1:
		return nil, ErrState
	case len(data) < 1 || len(data) > mostData:
		return nil, fmt.Errorf("softreader: %d bytes, expected 1 to %d", len(data), mostData)
	}
	m.sent++
	m.sentEnd = last
	frame := []byte{1, toHost, 0}
	if last {
		frame[2] = 1
	}
	frame = binary.BigEndian.AppendUint32(frame, m.sent)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(data)))
	frame = append(frame, keystream(m.up.encrypt, m.sent, data)...)
	return append(frame, m.up.sum(frame)...), nil
}

// Open takes the next frame from the host. A frame that is refused leaves the session as it was.
func (m *Module) Open(frame []byte) (data []byte, last bool, err error) {
	if !m.open || m.recvEnd {
		return nil, false, ErrState
	}
	end := len(frame) - macLen
	if end <= headerLen || frame[0] != 1 || frame[1] != fromHost || frame[2] > 1 ||
		int(binary.BigEndian.Uint16(frame[7:9])) != end-headerLen {
		return nil, false, ErrFrame
	}
	if subtle.ConstantTimeCompare(m.down.sum(frame[:end]), frame[end:]) != 1 {
		return nil, false, ErrFrame
	}
	sequence := binary.BigEndian.Uint32(frame[3:7])
	if sequence != m.received+1 {
		return nil, false, ErrSequence
	}
	m.received, m.recvEnd = sequence, frame[2] == 1
	return keystream(m.down.encrypt, sequence, frame[headerLen:end]), m.recvEnd, nil
}

// keystream encrypts and decrypts: data in counter mode, the counter the sequence number and the block's own.
func keystream(block cipher.Block, sequence uint32, data []byte) []byte {
	counter := make([]byte, block.BlockSize())
	binary.BigEndian.PutUint32(counter[len(counter)-8:], sequence)
	out := make([]byte, len(data))
	cipher.NewCTR(block, counter).XORKeyStream(out, data)
	return out
}

// sum is the MAC of header and ciphertext.
func (d direction) sum(covered []byte) []byte {
	message := append([]byte(nil), covered[:headerLen]...)
	message = append(message, make([]byte, 16-headerLen)...)
	message = append(message, covered[headerLen:]...)
	for len(message)%d.mac.BlockSize() != 0 {
		message = append(message, 0)
	}
	return chain(d.mac, message)[:macLen]
}
